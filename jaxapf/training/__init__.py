"""Training: the step, the loop, data, parallelism, checkpoints, logging.

from jaxapf.training import data, fit, parallel, step
"""
