"""The plugin door: finding plugins, their specs, and the code behind a registered name."""
