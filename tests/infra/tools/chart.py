"""Renders a chart as Helm does and holds every document against Kubernetes' own schemas.

Its argument is {"chart", "values", "name", "namespace"}, `values` being the text of a file of values. It writes
{"documents", "mistakes", "foreign", "lint"}, or {"refused"} where Helm refuses.
"""

import json
import sys

import helm_python as helm
import kubernetes_validate
import yaml

# The oldest that the chart takes, and the newest that there are schemas of.
VERSIONS = ["1.30", "1.33", "1.37"]
# How grave a finding of `helm lint` is: 2 is a warning.
WARNING = 2


def mistakes(path, document):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(part) for part in error.path)
            name = document["metadata"]["name"]
            yield f"{path}: {document['kind']} `{name}` in {version}: `{place}`: {error.message}"


def main():
    asked = json.loads(sys.argv[1])
    values = helm.values_from_yaml(asked["values"])
    try:
        with helm.Chart.load(asked["chart"]) as chart:
            rendered = chart.render(values, name=asked["name"], namespace=asked["namespace"])
    except helm.HelmError as error:
        return {"refused": str(error)}
    documents, wrong, foreign = [], [], []
    for path, text in rendered.items():
        if path.endswith(".txt"):
            continue
        for document in filter(None, yaml.safe_load_all(text)):
            documents.append(document)
            try:
                wrong.extend(mistakes(path, document))
            except kubernetes_validate.SchemaNotFoundError:
                foreign.append(f"{document['apiVersion']} {document['kind']}")
    report = helm.lint(asked["chart"], values, strict=True)
    lint = [f"{found['path']}: {found['error']}" for found in report["messages"] if found["severity"] >= WARNING]
    return {"documents": documents, "mistakes": wrong, "foreign": foreign, "lint": lint}


json.dump(main(), sys.stdout)
