"""What a release is made of: the package's own description, the workflow and the container."""

import email
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata

import pytest
import scripts
import yaml
from scripts import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def jobs():
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    # YAML 1.1 takes "on" for true.
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    assert workflow["permissions"] == {"contents": "read"}
    return workflow["jobs"]


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def run(*command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


def test_a_release_is_tested_built_and_then_published(jobs):
    assert [*jobs] == ["tests", "build", "publish"]
    assert (jobs["build"]["needs"], jobs["publish"]["needs"]) == ("tests", "build")
    assert commands(jobs["publish"]) == []  # nothing of ours runs where publishing is allowed
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert not any("permissions" in jobs[name] for name in ("tests", "build"))
    assert "secrets." not in WORKFLOW.read_text("utf-8")
    for job in jobs.values():
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w./-]+@[\w./]+", step.get("uses", "a/b@v1"))


def test_it_is_tested_on_each_python_that_the_package_names(jobs):
    named = [line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if ":: 3." in line]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == named
    least, most = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert named == [f"3.{minor}" for minor in range(int(least), int(most))]


def test_its_commands_are_those_of_the_readme_and_the_checks(jobs):
    checks = (ROOT / ".ci" / "run").read_text("utf-8")
    for command in [*commands(jobs["tests"]), *commands(jobs["build"])]:
        program = shlex.split(command)[0]
        if program.startswith(".ci/"):
            assert (ROOT / program).stat().st_mode & 0o111
            assert program in checks or program == ".ci/tag"
        else:
            assert command in README and command in checks.replace("\\", "")


def test_a_tag_is_the_version(jobs):
    (command,) = [line for line in commands(jobs["tests"]) if line.startswith(".ci/tag")]
    command = command.replace(".ci/tag", f"{sys.executable} {ROOT}/.ci/tag")
    env = {"GITHUB_REF_NAME": f"v{PROJECT['version']}"}
    assert run("sh", "-c", command, env=env).returncode == 0
    done = run("sh", "-c", command, env={"GITHUB_REF_NAME": "v99.1"})
    assert done.returncode == 1
    assert "the release is 99.1, and pyproject.toml says" in done.stderr


def test_the_description_has_no_relative_links(monkeypatch):
    setup = scripts.loaded(ROOT / "setup.py")
    links = r"(!?)\[[^\[\]]*\]\((?!https?:|#)([^)]*)\)"
    plain = setup.long_description()
    assert not re.findall(links, plain)
    assert "Getting started" in plain and "docs/" not in plain.replace("`docs/`", "")
    targets = [target for _, target in re.findall(links, README)]
    assert len(targets) > 10
    # As soon as a repository is named, they lead there.
    project = {**PROJECT, "urls": {"Repository": "https://example.org/tfvae"}}
    monkeypatch.setattr(setup.tomllib, "loads", lambda _: {"project": project})
    linked = setup.long_description()
    for target in targets:
        assert re.search(rf"\(https://example.org/tfvae/(blob|raw)/v[\d.]+/{target}\)", linked)


def test_extras_that_are_named_exist():
    """In messages, pages and the container's recipe; and so do the lines to install them."""
    extras = PROJECT["optional-dependencies"]
    files = [*ROOT.glob("tfvae/**/*.py"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")]
    text = "\n".join(path.read_text("utf-8") for path in files)
    named = [*re.findall(r"(?:tfvae|\.)\[([a-z,]+)\]", text)]
    named += re.findall(r'missing_extra\([^()]*"(\w+)"\s*\)', text)
    assert len(named) > 10
    for names in named:
        assert set(names.split(",")) <= set(extras), names
    # What developers have is all that a test may need.
    (own,) = [line for line in extras["dev"] if line.startswith("tfvae[")]
    assert set(own[6:-1].split(",")) == set(extras) - {"dev", "cuda"}
    for name, lines in extras.items():
        assert not any(line.startswith("pyarrow") and "<" in line for line in lines), name


def test_array_record_is_asked_for_by_tfds_alone():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert "array_record" not in text.replace("array-record", "array_record")


def instructions():
    """Return the Dockerfile's lines, each an instruction and what it says."""
    lines = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    return [line.split(None, 1) for line in lines if line and not line.startswith("#")]


def test_the_container_is_made_of_what_is_there(tmp_path):
    found = instructions()
    assert [found[0][0], found[-2], found[-1]] == [
        "FROM",
        ["ENTRYPOINT", '["tfvae"]'],
        ["CMD", '["train"]'],
    ]
    python = re.fullmatch(r"python:(3\.\d+)-slim", found[0][1])[1]
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]
    kept = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = []
    for name, what in found:
        if name == "COPY":
            *files, place = what.split()
            assert place.startswith("/src/")
            copied += files
    assert all((ROOT / file).exists() and f"!{file}" in kept for file in copied)
    # As root until the package is installed, and not after.
    assert [name for name, _ in found].index("USER") > [name for name, _ in found].index("RUN")


@pytest.mark.parametrize(("extras", "wanted"), [("", "/src"), ("cuda,app", "/src[cuda,app]")])
def test_the_container_installs_the_extras_that_are_asked_for(extras, wanted, tmp_path):
    (line,) = [what for name, what in instructions() if name == "RUN" and "pip" in what]
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\nfor one; do echo "$one"; done\n')
    pip.chmod(0o755)
    line = line.replace("rm -rf /src", "true")
    env = {"PATH": f"{tmp_path}:/bin:/usr/bin", "EXTRAS": extras}
    assert run("sh", "-c", line, env=env).stdout.split() == ["install", "--no-cache-dir", wanted]


@pytest.mark.exhaustive
def test_the_containers_files_make_the_package(tmp_path):
    """What it copies, and nothing else, is installed by pip and runs."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name, what in instructions():
        if name == "COPY":
            *files, place = what.split()
            to = tmp_path / place.strip("/")
            for file in files:
                if (ROOT / file).is_dir():
                    shutil.copytree(ROOT / file, to, ignore=ignored)
                else:
                    to.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / file, to)
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target]
    done = run(*install, tmp_path / "src")
    assert done.returncode == 0, done.stderr
    program = "from tfvae.cli.main import main; import sys; sys.argv = ['tfvae', '--help']; main()"
    done = run(sys.executable, "-c", program, cwd=target)
    assert done.returncode == 0 and "train" in done.stdout, done.stderr


@pytest.mark.exhaustive
def test_wheel_and_archive_are_whole_and_what_an_index_takes(jobs, tmp_path):
    (command,) = commands(jobs["build"])
    script, folder = shlex.split(command)
    done = run(ROOT / script, tmp_path / folder, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count("PASSED") == 2
    (path,) = (tmp_path / folder).glob("*.whl")
    wheel = zipfile.ZipFile(path)
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    facts = email.message_from_bytes(wheel.read(name))
    assert facts["Requires-Python"] and facts["Maintainer"] and facts.get_all("Project-URL")
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= {
        *facts.get_all("Classifier")
    }
    (source,) = (tmp_path / folder).glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/conftest.py", "docs/index.md", "tfvae/py.typed", ".ci/run"} <= names
    assert not any("__pycache__" in name or name.endswith(".keras") for name in names)


@pytest.mark.exhaustive
def test_the_lines_that_install_extras_work_where_the_package_is_installed():
    """It is found where it is installed, also while no index has it under its name."""
    if not any(metadata.distributions(name="tfvae")):
        pytest.skip("the package runs from its folder")
    for names in ("app", "onnx,litert", "parquet"):
        line = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index"]
        done = run(*line, f"tfvae[{names}]")
        assert done.returncode == 0, done.stderr
        assert "Would install" not in done.stdout
