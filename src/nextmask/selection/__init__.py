"""Which samples to annotate next: arrays in, rows out."""

from nextmask.selection.k_center import k_center
from nextmask.selection.most_uncertain import most_uncertain
from nextmask.selection.random_sampling import random_sampling
from nextmask.selection.select import needs, select
from nextmask.selection.stratified_random import stratified_random
from nextmask.selection.strided import strided
from nextmask.selection.types import EVIDENCE, Query, Strategy, because
from nextmask.selection.typiclust import typiclust

STRATEGIES: dict[str, Strategy] = {
    "random": random_sampling,
    "strided": strided,
    "stratified_random": stratified_random,
    "k_center": k_center,
    "typiclust": typiclust,
    "most_uncertain": most_uncertain,
}
"""Every strategy by the name that a study file gives it."""

__all__ = [
    "EVIDENCE",
    "STRATEGIES",
    "Query",
    "Strategy",
    "because",
    "k_center",
    "most_uncertain",
    "needs",
    "random_sampling",
    "select",
    "stratified_random",
    "strided",
    "typiclust",
]
