"""A learner of one's own: a random forest that looks at every pixel by itself, with nine numbers about its surroundings.

It knows nothing of shape and will not beat a network; it trains in seconds, and shows all that a study asks of a learner: four
methods, and a segmenter with one. Nothing is inherited.
"""

import pickle
from pathlib import Path

import numpy as np
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from nextmask import IGNORE


def features(image: np.ndarray) -> np.ndarray:
    """Describe every pixel of an image (channels, *spatial): its value, blurred values and edges, (pixels, features)."""
    found = []
    for channel in image.astype(np.float32):
        for width in (0, 1, 3, 6):
            sigma = (0,) * (channel.ndim - 2) + (
                width,
                width,
            )  # within the slice, whether there is one or a volume of them
            smooth = ndimage.gaussian_filter(channel, sigma)
            found += [smooth, np.hypot(*np.gradient(smooth, axis=(-2, -1)))]
    rows = np.broadcast_to(np.linspace(-1, 1, image.shape[-2])[:, None], image.shape[1:])
    return np.stack([*found, rows], axis=-1).reshape(-1, len(found) + 1)


class Forest:
    """A segmenter: whatever has `predict`."""

    def __init__(self, forest: RandomForestClassifier, classes: int):
        self.forest, self.classes = forest, classes

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return class probabilities (classes, *spatial); a class that nobody has drawn yet has probability 0."""
        found = np.zeros((self.classes, image[0].size), np.float32)
        found[self.forest.classes_] = self.forest.predict_proba(features(image)).T
        return found.reshape(self.classes, *image.shape[1:])


class ForestLearner:
    """Trains a forest on every pixel that somebody annotated."""

    def fit(self, task, progress=None) -> Forest:
        pairs = [load() for load in task.samples]
        known = np.concatenate([np.asarray(mask).ravel() for _, mask in pairs])
        seen = np.concatenate([features(image) for image, _ in pairs])
        forest = RandomForestClassifier(50, min_samples_leaf=5, random_state=np.random.RandomState(task.seed))
        return Forest(forest.fit(seen[known != IGNORE], known[known != IGNORE]), task.config.classes)

    def save(self, segmenter: Forest, path: Path) -> None:
        path.write_bytes(
            pickle.dumps((segmenter.forest, segmenter.classes))
        )  # a pickle is a program: open your own only

    def load(self, path: Path, device: str) -> Forest:
        return Forest(*pickle.loads(path.read_bytes()))

    def describe(self, task) -> dict:
        return {"trees": 50}


def main() -> None:
    """Simulate two rounds on drawn patients, once with the forest and once with nextmask's network."""
    import tempfile

    from nextmask import Study, StudyConfig, simulate
    from nextmask.data.synthetic import CLASSES, write_patients

    with tempfile.TemporaryDirectory() as folder:
        write_patients(Path(folder) / "patients", 6, seed=0, shape=(6, 48, 48), phases=1)
        settings = StudyConfig(images="../patients/cases.csv", classes=CLASSES, unit="slice", iterations=100)
        Study.create(Path(folder) / "study", settings)
        for learner in (ForestLearner(), None):
            played = simulate(Path(folder) / "study", strategy="random", query_size=6, rounds=2, learner=learner)
            dice = [each["dice"] for each in played.rounds[-1].scores.values()]
            print(played.rounds[-1].training["learner"], "Dice by class:", np.round(dice, 2))


if __name__ == "__main__":
    main()
