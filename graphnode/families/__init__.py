"""Published families of models: a directory in the layout of Hugging Face becomes a typed model, and goes back."""

from ._bert import Bert as Bert
from ._bert import MaskedHead as MaskedHead
from ._families import register as register
from ._family import Family as Family
from ._gemma2 import Gemma2 as Gemma2
from ._gemma3 import Gemma3 as Gemma3
from ._gpt2 import GPT2 as GPT2
from ._language_model import LanguageModel as LanguageModel
from ._llama import Llama as Llama
from ._load import abstract as abstract
from ._load import config as config
from ._load import load as load
from ._qwen3 import Qwen3 as Qwen3
from ._save import save as save
from ._settings import IGNORED as IGNORED
from ._settings import Settings as Settings
from ._t5 import T5 as T5
from ._vit import ViT as ViT
from ._whisper import Whisper as Whisper
