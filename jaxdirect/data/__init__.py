"""Data sets for node classification, in host memory."""

from jaxdirect.data.convert import from_edge_index, from_jraph
from jaxdirect.data.debian import debian_packages
from jaxdirect.data.files import from_files
from jaxdirect.data.graph import Floors, Graph, build_csr, floors
from jaxdirect.data.mag import ogbn_mag
from jaxdirect.data.relational import RelationalGraph
from jaxdirect.data.relational_floors import RelationalFloors, relational_floors
from jaxdirect.data.wordnet import relational_wordnet, wordnet

__all__ = [
    "Floors",
    "Graph",
    "RelationalFloors",
    "RelationalGraph",
    "build_csr",
    "debian_packages",
    "floors",
    "from_edge_index",
    "from_files",
    "from_jraph",
    "ogbn_mag",
    "relational_floors",
    "relational_wordnet",
    "wordnet",
]
