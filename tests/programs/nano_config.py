"""Settings for nano.py, in a file of Python as nanoGPT has them."""

learning_rate = 2e-3
eval_interval = 10
