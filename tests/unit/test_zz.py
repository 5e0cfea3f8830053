import pytest
from test_remedies_stages import *
def test_x(scene, typed):
    for c in (["sweep","all"],["submit","run","toy_task:train","--name","stranger","--set", "seed=7"],["submit","run","toy_task:priced","--name","stranger","--seed", 7]):
        print(c, *typed(*c), sep="\n")
