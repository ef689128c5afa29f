"""Write `golden.json` anew, after the differences have been looked at.

    python tests/architectures/regenerate.py [NAME ...]

Prints what changes, for example `timm/xcit: 19 groups, log_order 2379.1 -> 20 groups, log_order 2463.7`. Without names
all architectures are discovered; rows of packages that are not installed stay as they are. A fall is a symmetry lost:
do not write it away. After a rise, `pytest tests/architectures` proves what was gained.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

import onebasin as ob
from architectures import golden
from architectures.catalogue import CATALOGUE, build


def main() -> None:
    """Discover, show the differences, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a row of the catalogue, such as timm/xcit")
    names = parser.parse_args().names or list(CATALOGUE)
    unknown = [name for name in names if name not in CATALOGUE]
    if unknown:
        parser.error(f"not in the catalogue: {', '.join(unknown)}")
    table = golden.read() if golden.PATH.exists() else {}
    for name in names:
        try:
            model, args, kwargs = build(name)
        except ImportError as error:
            sys.stdout.write(f"{name}: left as it is, {error}\n")
            continue
        found = golden.Found.of(ob.discover(model, args, kwargs))
        if found != table.get(name):
            sys.stdout.write(f"{name}: {table.get(name, 'new')} -> {found}\n")
        table[name] = found
    golden.write({name: table[name] for name in CATALOGUE if name in table})


if __name__ == "__main__":
    main()
