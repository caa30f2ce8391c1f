"""The section of configurations on the page, and its record for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .cells import cells, duration, limit_of, mark, ratio_of, table, value_of
from .config_library import PYYAML
from .config_peers import Beside, as_beside
from .environment import Environment
from .library import GRAPHNODE
from .measures import Result, as_result, record_of

_SECTION = """\
## Configurations

`gn.config`: what a class costs that is configured for the first time, and what a file costs. A class has six fields,
three of them documented, and a State; half the nodes of a file are in an encoder. A size counts classes, nodes or
levels.

{figures}

The stack, and the time per level, are those of a chain in which each node holds the next one.

### Beside other libraries

The same model of {nodes} objects, a list of layers and an encoder that stands in two places, from a file. A time is the
median of one call; in brackets the median of the ratios to graphnode.

{peers}

- graphnode builds nodes, checked as they are made, and the others dataclasses of the same fields. The nodes have no
  States, as to make arrays would cost the same everywhere.
- hydra-core: `OmegaConf.load` and `instantiate(..., _convert_="object")`; the file refers to the encoder by
  `${{encoder}}`. Nothing is validated before it is built.
- jsonargparse: a parser with `add_class_arguments`, `parse_path` and `instantiate`; the file has a YAML anchor. A
  program can share one object by `link_arguments(..., apply_on="instantiate")`; a file cannot.
- fiddle reads no configuration files: its configs are written in Python. Here they come from the JSON of its
  `serialization`, made to be read by programs.
- What is kept is found out by running each: whether `model.encoder is model.decoder`; what a field `n_uot` and a value
  `"four"` for an `int` give in the last layer of a file; whether an object that refers to itself is built (in fiddle
  from a config in Python, as none such can be written).

Measured as all else on this page, with one difference: what was alive before is hidden from the garbage collector
(`gc.freeze`). A run of half a second meets full collections and one of a millisecond none, and they would look through
JAX and through all these libraries. What a long run itself holds is still looked through: this is why 500 classes cost
more per class than 50, and 100,000 nodes more per node with PyYAML. `load` keeps the collector from running.

{environment}

"""


@dataclass(frozen=True)
class Configs:
    """All that was measured of configurations."""

    figures: Sequence[Result]
    peers: Sequence[Beside]
    nodes: int
    """Of the model that the peers build."""
    environment: Environment


def section(configs: Configs) -> str:
    """The section of the page."""
    return _SECTION.format(
        figures=config_figures_table(configs.figures),
        nodes=f"{configs.nodes:,}",
        peers=peers_table(configs.peers),
        environment=configs.environment.sentence,
    )


def config_figures_table(results: Sequence[Result]) -> str:
    """A Markdown table of one row per limit."""
    columns = (GRAPHNODE, PYYAML)
    header = ("figure", "size", "", "measured", "limit", *columns)
    rows = [
        (
            one.title,
            f"{one.states:,}" if one.states else "",
            mark(one),
            value_of(one),
            limit_of(one),
            *cells(one, columns),
        )
        for one in results
    ]
    return table(header, rows)


def peers_table(peers: Sequence[Beside]) -> str:
    """A Markdown table of one row per library."""
    header = (
        "library",
        "load and validate",
        "build",
        "a shared object stays one",
        "a misspelled field",
        "a string for a number",
        "a cycle is built",
    )
    rows = [
        (
            one.name,
            _time(one.load, one.load_ratio),
            _time(one.build, one.build_ratio),
            one.kept.shared,
            one.kept.misspelled,
            one.kept.mistyped,
            one.kept.cycle,
        )
        for one in peers
    ]
    return table(header, rows)


def _time(seconds: float, ratio: float) -> str:
    return duration(seconds) if ratio == 1 else f"{duration(seconds)} ({ratio_of(ratio)} ×)"


def configs_record(configs: Configs) -> dict[str, object]:
    """The section for programs."""
    return {
        "environment": asdict(configs.environment),
        "figures": [record_of(result) for result in configs.figures],
        "nodes": configs.nodes,
        "peers": [asdict(one) for one in configs.peers],
    }


def as_configs(record: Mapping[str, Any]) -> Configs:
    """What a record was made of."""
    return Configs(
        figures=[as_result(one) for one in record["figures"]],
        peers=[as_beside(one) for one in record["peers"]],
        nodes=record["nodes"],
        environment=Environment(**record["environment"]),
    )
