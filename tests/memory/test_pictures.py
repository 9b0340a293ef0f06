"""What a memory and a stored result show in a notebook."""

from __future__ import annotations

from jobspan import Memory


def test_a_memory_shows_what_it_has_done(tmp_path):
    memory = Memory(tmp_path / "cache", verbose=0)
    double = memory.cache(lambda x: 2 * x)
    for x in (1, 2, 1):
        double(x)
    shown = memory._repr_html_()
    assert '<td style="text-align:right">1</td>' in shown
    assert str(tmp_path / "cache") in shown
    assert "stores nothing" in Memory(None)._repr_html_()


def test_a_result_shows_its_call_and_nothing_is_markup(tmp_path):
    memory = Memory(tmp_path / "cache", verbose=0)

    @memory.cache
    def local(text):
        return text

    local("<script>")
    shown = local.call_and_shelve("<script>")._repr_html_()
    assert "&lt;locals&gt;.local" in shown
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "stored" in shown
