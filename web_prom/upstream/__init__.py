"""Private names of prometheus_client: this folder alone uses them, and checks them before it does.

A release of prometheus_client may change a name that begins with an underscore, or a module that its
documentation does not mention. The names are in groups here. Each group has a check: a function
whose name begins with ``has_``, or ``can_replace_value_class``. It makes throwaway metrics outside of any
registry, and looks whether the names are there and behave as web-prom expects. It runs once per process, when
the group is needed. If it fails, one message in the log names the installed version and the consequence. Most
groups have public methods as a replacement, which take longer.

A constant that is an ``attrgetter`` is for hot paths. It is used only after the check of its group.
"""
