"""Lets the host reach MAAS's metadata service.

ESXi drops outgoing connections that no ruleset allows, and none allows the
port of the metadata service. A ruleset of our own opens this one port for the
first boot only; the firewall stays on.
"""

import contextlib
import os

from host import AgentError

RULES = "/etc/vmware/firewall/esxid.xml"
ATTEMPTS = 3
TEMPLATE = """<ConfigRoot>
  <service id="0900">
    <id>esxid</id>
    <rule id="0000">
      <direction>outbound</direction>
      <protocol>tcp</protocol>
      <porttype>dst</porttype>
      <port>{}</port>
    </rule>
    <enabled>true</enabled>
    <required>false</required>
  </service>
</ConfigRoot>
"""


@contextlib.contextmanager
def outbound(host, port):
    """Opens a TCP port for connections to the outside while the body runs."""
    try:
        try:
            with open(RULES, "w") as f:
                f.write(TEMPLATE.format(port))
            refresh(host)
        except (OSError, AgentError) as e:
            # MAAS cannot be told without; if its port is one that is open anyway, all goes well.
            host.journal.say("cannot open port {} in the firewall: {}".format(port, e))
        yield
    finally:
        close(host)


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
