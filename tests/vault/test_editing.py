from tomovault.vault.editing import change_site
from tomovault.vault.site import SITE_FILE, load_site


def test_what_a_person_wrote_stays_and_a_long_value_stays_on_its_line(tmp_path):
    path = tmp_path / SITE_FILE
    path.write_text("# ours\ncatalogue: sqlite:///catalogue.db  # for now\njobs: {cpus: 1}\n")
    url = "postgresql+psycopg://tomovault@server.example/" + "x y" * 60
    change_site(tmp_path, {"catalogue": url, "jobs": {"reconstructions": 2}})
    lines = path.read_text().splitlines()
    assert lines[0] == "# ours"
    (line,) = (line for line in lines if "server.example" in line)
    assert line.startswith("catalogue:")
    assert url in line
    site = load_site(tmp_path)
    assert (site.jobs.cpus, site.jobs.reconstructions) == (1, 2)
