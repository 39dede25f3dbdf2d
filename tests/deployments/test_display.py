from dataclasses import dataclass

from quorate.deployments.display import Displayed, Table


@dataclass(frozen=True, repr=False)
class Shown(Displayed):
    verdict: str

    def tables(self):
        return [Table(("member", "weight"), [("cnn", "0.25"), ("transformer", "0.75")], "weights", [self.verdict])]


def test_text_lines_columns_up():
    assert repr(Shown("ensemble")) == (
        "weights\nmember       weight\ncnn          0.25\ntransformer  0.75\nensemble"
    )  # fmt: skip


def test_html_escapes_what_it_shows():
    shown = Shown("<script>")._repr_html_()
    assert "<td>cnn</td><td>0.25</td>" in shown
    assert "<script>" not in shown


def test_lines_alone_need_no_table():
    assert Table(lines=["a", "b"]).text() == "a\nb"
    assert Table(lines=["a"]).html() == "<div>a</div>"
