"""Files that take their names when they are complete."""

from streamcodec.files import NewFile


def test_new_file_replaces_what_a_link_points_to(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    new = NewFile(link)
    new.partial.write_text("new")
    new.commit()
    new.discard()
    assert link.is_symlink()
    assert real.read_text() == "new"
