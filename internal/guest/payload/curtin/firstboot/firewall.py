"""Lets the host reach MAAS's metadata service.

ESXi drops outgoing connections that no ruleset allows, and none allows the
port of the metadata service. A ruleset of our own opens this one port for the
first boot only; the firewall stays on.
"""

import contextlib
import os

from host import AgentError

RULES = "/etc/vmware/firewall/esxid.xml"
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
        with open(RULES, "w") as f:
            f.write(TEMPLATE.format(port))
    except OSError as e:
        raise AgentError("cannot open port {} in the firewall: {}".format(port, e))
    try:
        host.esxcli("network", "firewall", "refresh")
        yield
    finally:
        os.remove(RULES)
        host.esxcli("network", "firewall", "refresh")
