"""Which samples to annotate next: arrays in, rows out."""

from nextmask.selection.agglomerative import agglomerative
from nextmask.selection.badge import badge
from nextmask.selection.budget import select_within
from nextmask.selection.calr import calr
from nextmask.selection.ceal import ceal, ceal_pseudo_labels
from nextmask.selection.clasp_pe import clasp_pe
from nextmask.selection.cluster_quota import cluster_quota
from nextmask.selection.core_gcn import core_gcn
from nextmask.selection.cscs import cscs
from nextmask.selection.facility_location import facility_location
from nextmask.selection.k_center import k_center
from nextmask.selection.kmeans_medoids import kmeans_medoids
from nextmask.selection.limits import limited
from nextmask.selection.max_herding import max_herding
from nextmask.selection.most_uncertain import most_uncertain
from nextmask.selection.noise import noisy
from nextmask.selection.oracle_foreground_random import oracle_foreground_random
from nextmask.selection.power_bald import power_bald
from nextmask.selection.power_entropy import power_entropy
from nextmask.selection.predicted_foreground_random import predicted_foreground_random
from nextmask.selection.prob_cover import prob_cover
from nextmask.selection.random_patients import random_patients
from nextmask.selection.random_sampling import random_sampling
from nextmask.selection.select import needs, select
from nextmask.selection.selective_uncertainty import selective_uncertainty
from nextmask.selection.similar import similar
from nextmask.selection.stochastic_batches import stochastic_batches
from nextmask.selection.stochastic_batches_entropy import stochastic_batches_entropy
from nextmask.selection.stratified_by_class import stratified_by_class
from nextmask.selection.stratified_random import stratified_random
from nextmask.selection.strided import strided
from nextmask.selection.two_stage import two_stage_k_center
from nextmask.selection.types import EVIDENCE, Query, Strategy, because
from nextmask.selection.typiclust import typiclust
from nextmask.selection.urds import urds
from nextmask.selection.usl import usl
from nextmask.selection.vaal import vaal

STRATEGIES: dict[str, Strategy] = {
    "random": random_sampling,
    "strided": strided,
    "stratified_random": stratified_random,
    "random_patients": random_patients,
    "predicted_foreground_random": predicted_foreground_random,
    "oracle_foreground_random": oracle_foreground_random,
    "k_center": k_center,
    "two_stage_k_center": two_stage_k_center,
    "prob_cover": prob_cover,
    "max_herding": max_herding,
    "facility_location": facility_location,
    "typiclust": typiclust,
    "kmeans_medoids": kmeans_medoids,
    "cluster_quota": cluster_quota,
    "most_uncertain": most_uncertain,
    "calr": calr,
    "agglomerative": agglomerative,
    "similar": similar,
    "usl": usl,
    "cscs": cscs,
    "urds": urds,
    "core_gcn": core_gcn,
    "vaal": vaal,
    "power_entropy": power_entropy,
    "power_bald": power_bald,
    "clasp_pe": clasp_pe,
    "stochastic_batches_entropy": stochastic_batches_entropy,
    "ceal": ceal,
    "badge": badge,
    "selective_uncertainty": selective_uncertainty,
}
"""Every strategy by the name that a study file gives it."""

__all__ = [
    "EVIDENCE",
    "STRATEGIES",
    "Query",
    "Strategy",
    "agglomerative",
    "badge",
    "because",
    "calr",
    "ceal",
    "ceal_pseudo_labels",
    "clasp_pe",
    "cluster_quota",
    "core_gcn",
    "cscs",
    "facility_location",
    "k_center",
    "kmeans_medoids",
    "limited",
    "max_herding",
    "most_uncertain",
    "needs",
    "noisy",
    "oracle_foreground_random",
    "power_bald",
    "power_entropy",
    "predicted_foreground_random",
    "prob_cover",
    "random_patients",
    "random_sampling",
    "select",
    "select_within",
    "selective_uncertainty",
    "similar",
    "stochastic_batches",
    "stochastic_batches_entropy",
    "stratified_by_class",
    "stratified_random",
    "strided",
    "two_stage_k_center",
    "typiclust",
    "urds",
    "usl",
    "vaal",
]
