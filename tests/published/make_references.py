"""Run the original runtimes of the published models, and keep a few numbers of what they give.

    python -m venv build/originals
    build/originals/bin/pip install --no-deps -r requirements-published.txt
    build/originals/bin/pip install numpy onnxruntime torch keras jax h5py equinox tinygrad
    build/originals/bin/python -m tests.published.make_references

Each file in `references` has the outputs for the inputs of seed 0. With names of models as arguments, only theirs are
written. Nothing here imports graphnode, and the tests import none of the runtimes, unless they are slow.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from unittest import mock

import numpy as np

from tests.published.containers import Array, Arrays, file_of

# NumPy promises that its numbers stay, as it does of no other generator.
Random: TypeAlias = np.random.RandomState

REFERENCES: Final = Path(__file__).parent / "references"


class Original(NamedTuple):
    """A model in the runtime that it was published for."""

    needs: tuple[str, ...]
    """The modules that it imports."""
    inputs: Callable[[Random], Arrays]
    """Draws what it is run on."""
    run: Callable[[Arrays], Arrays]
    """Runs it."""


def normal(rng: Random, *shape: int) -> Array:
    """Normal numbers."""
    return rng.standard_normal(shape).astype(np.float32)


@contextlib.contextmanager
def stand_ins(*names: str) -> Generator[None]:
    """Modules that an original imports, and that what is run of it does not use."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update({name: mock.MagicMock() for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


# silero-vad: PyTorch, exported to ONNX; and another training of the same, for tinygrad.


def speech_inputs(rng: Random) -> Arrays:
    """Three pieces of sound, each behind the last 64 samples of the one before."""
    sound = np.concatenate([np.zeros(64, np.float32), 0.1 * normal(rng, 3 * 512)])
    sound += 0.3 * np.sin(np.arange(len(sound)) * 0.08).astype(np.float32)
    return {"pieces": np.stack([sound[at : at + 576] for at in (0, 512, 1024)])}


def speech_in_onnx(inputs: Arrays) -> Arrays:
    """The probabilities of speech by ONNX Runtime, and a part of what is carried at the end."""
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(file_of("silero_vad", "data", "silero_vad_16k_op15.onnx"))
    carried = np.zeros((2, 1, 128), np.float32)
    probabilities: list[float] = []
    for piece in inputs["pieces"]:
        feed = {"input": piece[np.newaxis], "state": carried, "sr": np.array(16_000)}
        probability, carried = session.run(None, feed)
        probabilities.append(float(probability[0, 0]))
    return {"probabilities": np.array(probabilities, np.float32), "carried": carried[:, 0, :8]}


def speech_in_tinygrad(inputs: Arrays) -> Arrays:
    """The same by tinygrad, without a compiler; it takes a minute."""
    with mock.patch.dict(os.environ, DEV="PYTHON"):
        tinygrad = importlib.import_module("tinygrad")
        states = importlib.import_module("tinygrad.nn.state")
    path = file_of("silero_vad", "tinygrad_model.py")
    # Its package imports PyTorch.
    spec = importlib.util.spec_from_file_location("tinygrad_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TinySileroVAD()
    weights = states.safe_load(file_of("silero_vad", "data", "silero_vad_16k.safetensors"))
    states.load_state_dict(model, weights, verbose=False)
    carried = None
    probabilities: list[float] = []
    for piece in inputs["pieces"]:
        probability, carried = model(tinygrad.Tensor(piece[np.newaxis]), carried)
        probabilities.append(float(probability.numpy()[0, 0]))
    assert carried is not None
    return {"probabilities": np.array(probabilities, np.float32), "carried": carried.numpy()[:, 0, :8]}


# facenet-pytorch: PyTorch.


def face_inputs(rng: Random) -> Arrays:
    """Images for the three nets; that of the first may have any size."""
    return {"pnet": normal(rng, 1, 17, 14, 3), "rnet": normal(rng, 2, 24, 24, 3), "onet": normal(rng, 1, 48, 48, 3)}


def faces_in_torch(inputs: Arrays) -> Arrays:
    """What the three nets say of boxes and landmarks, and how sure they are."""
    torch = importlib.import_module("torch")
    with stand_ins("torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms", "PIL", "cv2"):
        # The package imports more than the nets.
        with stand_ins("requests", "requests.adapters", "tqdm", "tqdm.auto"):
            mtcnn = importlib.import_module("facenet_pytorch.models.mtcnn")
    outputs: Arrays = {}
    for name, net in (("pnet", mtcnn.PNet()), ("rnet", mtcnn.RNet()), ("onet", mtcnn.ONet())):
        with torch.no_grad():
            results = net(torch.from_numpy(inputs[name].transpose(0, 3, 1, 2).copy()))
        for at, result in enumerate(results):
            outputs[f"{name}.{at}"] = np.moveaxis(result.numpy(), 1, -1)
    return outputs


# fer: Keras.


def emotion_inputs(rng: Random) -> Arrays:
    """Images of one channel."""
    return {"images": normal(rng, 2, 64, 64, 1)}


def emotions_in_keras(inputs: Arrays) -> Arrays:
    """How likely each of seven emotions is."""
    with mock.patch.dict(os.environ, KERAS_BACKEND="jax"):
        keras = importlib.import_module("keras")
    with jax_as_it_is():
        model = keras.models.load_model(file_of("fer", "data", "emotion_model.hdf5"), compile=False)
        return {"probabilities": np.asarray(model(inputs["images"]))}


@contextlib.contextmanager
def jax_as_it_is() -> Generator[None]:
    """JAX without the strictness that the tests set."""
    jax = importlib.import_module("jax")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


# magika: Flax, exported to ONNX by way of TensorFlow.


def file_inputs(rng: Random) -> Arrays:
    """The bytes of two files: a program, and noise; 256 stands where there are no more.

    Of a short file most positions would be alike, and the variance over them nearly zero: there the original in float32
    is off by up to 0.6 % from the same in float64.
    """
    files = np.full((2, 2048), 256, np.int32)
    program = 28 * b"import numpy as np\n\n\ndef main() -> None:\n    print(np.ones(3))\n"
    files[0, : len(program)] = list(program)
    files[1] = rng.randint(0, 256, 2048)
    return {"files": files}


def files_in_onnx(inputs: Arrays) -> Arrays:
    """How likely each of 214 kinds of files is."""
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(file_of("magika", "models", "standard_v3_3", "model.onnx"))
    return {"probabilities": session.run(None, {"bytes": inputs["files"]})[0]}


# g2p-en: NumPy, trained in TensorFlow.


def word_inputs(rng: Random) -> Arrays:
    """A word that no dictionary has, and as many letters at random."""
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 13)
    return {"words": np.array(["activationist", "".join(letters)])}


def phonemes_in_numpy(inputs: Arrays) -> Arrays:
    """The phonemes of each word, by their number, -1 behind the last; and a part of what the encoder carries."""
    # They are for the text around words.
    with stand_ins("nltk", "nltk.corpus", "nltk.tokenize", "inflect"):
        module = importlib.import_module("g2p_en.g2p")
        g2p = module.G2p()
    phonemes = np.full((len(inputs["words"]), 20), -1)
    carried: list[Array] = []
    for at, word in enumerate(inputs["words"]):
        numbers = [g2p.p2idx[phoneme] for phoneme in g2p.predict(str(word))]
        phonemes[at, : len(numbers)] = numbers
        weights = (g2p.enc_w_ih, g2p.enc_w_hh, g2p.enc_b_ih, g2p.enc_b_hh)
        carried.append(g2p.gru(g2p.encode(str(word)), len(word) + 1, *weights)[0, -1, :8])
    return {"phonemes": phonemes, "carried": np.stack(carried)}


# expaloma: Equinox.


def molecule_inputs(rng: Random) -> Arrays:
    """Two molecules, a ring of five atoms and a chain of three, with features that are there or not."""
    bonds = np.array([(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (5, 6), (6, 7)], np.int32)
    senders, receivers = np.concatenate([bonds, bonds[:, ::-1]]).T
    features = (rng.random_sample((8, 116)) < 0.1).astype(np.float32)
    molecules = np.array([0] * 5 + [1] * 3, np.int32)
    return {"features": features, "senders": senders, "receivers": receivers, "molecules": molecules}


def charges_in_equinox(inputs: Arrays) -> Arrays:
    """The charge of each atom; the first molecule has a charge of one."""
    with stand_ins("rdkit", "rdkit.Chem", "rdkit.Chem.rdchem"):
        module = importlib.import_module("expaloma.nn.model")
    jnp = importlib.import_module("jax.numpy")
    with jax_as_it_is():
        model = module.load_eqx(file_of("expaloma", "weights", "espaloma_v0_0_8.eqx"))
        bonds = jnp.asarray(inputs["senders"]), jnp.asarray(inputs["receivers"])
        totals = jnp.array([[1.0], [0.0]])
        charges = model(jnp.asarray(inputs["features"]), *bonds, jnp.asarray(inputs["molecules"]), 2, totals)
    return {"charges": np.asarray(charges)[:, 0]}


ORIGINALS: Final = {
    "silero_vad_onnx": Original(("onnxruntime",), speech_inputs, speech_in_onnx),
    "silero_vad_safetensors": Original(("tinygrad",), speech_inputs, speech_in_tinygrad),
    "facenet": Original(("torch",), face_inputs, faces_in_torch),
    "fer": Original(("keras", "jax"), emotion_inputs, emotions_in_keras),
    "magika": Original(("onnxruntime",), file_inputs, files_in_onnx),
    "g2p": Original((), word_inputs, phonemes_in_numpy),
    "expaloma": Original(("equinox", "jax"), molecule_inputs, charges_in_equinox),
}
"""By the name of the file that keeps what it gave."""


def run(name: str, seed: int) -> tuple[Arrays, Arrays]:
    """Inputs from a seed, and what the original makes of them."""
    original = ORIGINALS[name]
    inputs = original.inputs(Random(seed))
    with warnings.catch_warnings():
        # The packages are older than what they import.
        warnings.simplefilter("ignore")
        return inputs, original.run(inputs)


def main(names: Sequence[str]) -> None:
    """Write the references of some models, or of all."""
    for name in names or ORIGINALS:
        _, outputs = run(name, 0)
        path = REFERENCES / f"{name}.npz"
        np.savez_compressed(path, allow_pickle=False, **outputs)
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
