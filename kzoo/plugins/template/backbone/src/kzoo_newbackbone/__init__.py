"""The backbone newbackbone, a plugin for kzoo."""
