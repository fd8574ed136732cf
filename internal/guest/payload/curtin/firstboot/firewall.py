"""Lets the host reach MAAS's metadata service, and vCenter if it is to join one.

ESXi drops outgoing connections that no ruleset allows, and none allows the
port of the metadata service. A ruleset of our own opens what is needed for the
first boot only; the firewall stays on.
"""

import contextlib
import os

from host import AgentError

RULES = "/etc/vmware/firewall/esxid.xml"
ATTEMPTS = 3
SERVICE = """<ConfigRoot>
  <service id="0900">
    <id>esxid</id>
{}    <enabled>true</enabled>
    <required>false</required>
  </service>
</ConfigRoot>
"""
RULE = """    <rule id="{:04}">
      <direction>outbound</direction>
      <protocol>tcp</protocol>
      <porttype>dst</porttype>
      <port>{}</port>
    </rule>
"""


@contextlib.contextmanager
def outbound(host, port):
    """Opens a TCP port for connections to the outside while the body runs."""
    try:
        open_ports(host, port)
        yield
    finally:
        close(host)


def open_ports(host, *ports):
    """Opens these ports and no others, until the body of outbound is done."""
    try:
        with open(RULES, "w") as f:
            f.write(SERVICE.format("".join(RULE.format(number, port) for number, port in enumerate(ports))))
        refresh(host)
    except (OSError, AgentError) as e:
        # MAAS cannot be told without; if its port is one that is open anyway, all goes well.
        host.journal.say("cannot open ports {} in the firewall: {}".format(list(ports), e))


def close(host):
    """What the body did counts, not this: a failure is only logged."""
    try:
        if os.path.exists(RULES):
            os.remove(RULES)
        refresh(host)
    except (OSError, AgentError) as e:
        host.journal.say("cannot close the firewall again: {}".format(e))


def refresh(host):
    """Makes the firewall read its rulesets again."""
    for attempt in range(ATTEMPTS):
        try:
            host.esxcli("network", "firewall", "refresh")
            return
        except AgentError as e:
            host.journal.say("trying again: {}".format(e))
    host.run("localcli", "network", "firewall", "refresh")  # without hostd
