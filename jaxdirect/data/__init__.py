"""Data sets for node classification, in host memory."""

from jaxdirect.data.files import from_files
from jaxdirect.data.graph import Floors, Graph, build_csr, floors
from jaxdirect.data.wordnet import wordnet

__all__ = ["Floors", "Graph", "build_csr", "floors", "from_files", "wordnet"]
