"""What a user touches: the command line, named experiments, the run store and the report."""

__version__ = "0.1.0"
