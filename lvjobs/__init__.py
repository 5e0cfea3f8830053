"""lvjobs: fine-tuning studies that outlive their cluster."""

__version__ = "0.1.0"
