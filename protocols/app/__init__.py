"""The application: command line, run directory, report. The only place with a terminal or a template."""
