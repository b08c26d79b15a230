"""Settings: the process's own, and those of policy with their origins and locks."""

from smarthost.config._process import Listen, ProcessSettings, process_settings

__all__ = ["Listen", "ProcessSettings", "process_settings"]
