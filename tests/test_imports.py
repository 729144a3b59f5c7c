"""Imports between the files of the package: no circle of more than two files."""

import pytest

grimp = pytest.importorskip("grimp", reason="import-linter is not installed")

# circles of more than two files that are still there: to be emptied, never to be added to
KNOWN: set[frozenset[str]] = set()


def circles(graph) -> set[frozenset[str]]:
    """Files that import each other, directly or through others; two at least."""
    reached = {module: reachable(graph, module) for module in graph.modules}
    groups = {frozenset({other for other in seen if module in reached[other]}) for module, seen in reached.items()}
    return {group for group in groups if len(group) > 1}


def reachable(graph, module) -> set[str]:
    seen, left = set(), [module]
    while left:
        new = graph.find_modules_directly_imported_by(left.pop()) - seen
        seen |= new
        left += new
    return seen


def test_no_circle_of_more_than_two_files():
    graph = grimp.build_graph("xclimb", exclude_type_checking_imports=True)
    assert {group for group in circles(graph) if len(group) > 2} == KNOWN


def test_circles_are_seen():
    graph = grimp.ImportGraph()
    for importer, imported in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "f"), ("f", "e")]:
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == {frozenset("abc"), frozenset("ef")}


@pytest.mark.parametrize("below", ["xclimb.models.chgnet", "xclimb.models.base", "xclimb.models.potential"])
def test_no_network_imports_a_backend(below):
    graph = grimp.build_graph("xclimb", exclude_type_checking_imports=True)
    files = graph.find_descendants(below) | {below}
    imported = set().union(*(graph.find_upstream_modules(file) for file in files))
    assert not {module for module in imported if module.startswith("xclimb.backends")}
