import os

from hypothesis import HealthCheck, settings

# read when torch is first imported, later: tests are small, and several workers share the cores
os.environ.setdefault("OMP_NUM_THREADS", "1")

# the run-time type checker makes the first example of a test slow: neither a deadline nor a health problem
settings.register_profile("xclimb", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("xclimb-ci", settings.get_profile("xclimb"), derandomize=True, database=None, print_blob=True)
settings.load_profile("xclimb-ci" if os.environ.get("CI") else "xclimb")
