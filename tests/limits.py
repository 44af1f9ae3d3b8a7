"""Bounds against hanging. None says how fast anything is: all hold on a machine a tenth as fast as a laptop."""

HANG_S = 120.0  # one wait for what is bound to come
STARTS_S = 600.0  # one wait that includes the start of processes which import torch, or some learning
TEST_TIMEOUT_S = 300  # a whole test, pyproject's timeout; more where a test waits several times
LONG_TEST_TIMEOUT_S = 2_400  # a test that starts real agents or servers
SCRIPT_S = 600.0  # a script that fetches or starts a server of Java
