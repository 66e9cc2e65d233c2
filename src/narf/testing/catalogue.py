"""What every catalogue must do. An implementation subclasses the suite and gives the fixture."""

from __future__ import annotations

from narf.data.catalogue import Catalogue, Registered, Registration


def registration(key: str, *, kind: Registered = Registered.DATASET, name: str = "default/digits", version: str = "v1") -> Registration:
    return Registration(key=key, kind=kind, name=name, version=version, body={"rows": 7, "note": "für alle", "columns": [{"name": "x"}]})


class CatalogueContract:
    """Fixture `catalogue`: an empty one."""

    def test_what_was_registered_is_found_by_name_as_it_was_told(self, catalogue: Catalogue) -> None:
        told = registration("a")
        catalogue.register(told)
        found = catalogue.resolve(Registered.DATASET, "default/digits")
        assert found is not None
        assert (found.key, found.kind, found.name, found.version, dict(found.body)) == (
            told.key,
            told.kind,
            told.name,
            "v1",
            dict(told.body),
        )

    def test_the_newest_is_found(self, catalogue: Catalogue) -> None:
        for number in range(1, 13):
            catalogue.register(registration(f"key {number}", version=f"v{number}"))
        found = catalogue.resolve(Registered.DATASET, "default/digits")
        assert found is not None and found.version == "v12"

    def test_what_is_told_again_changes_nothing(self, catalogue: Catalogue) -> None:
        catalogue.register(registration("a", version="v1"))
        catalogue.register(registration("b", version="v2"))
        catalogue.register(registration("a", version="v1"))
        found = catalogue.resolve(Registered.DATASET, "default/digits")
        assert found is not None and (found.key, found.version) == ("b", "v2")

    def test_kinds_and_names_are_apart(self, catalogue: Catalogue) -> None:
        names = ["default/digits", "default/digits2", "other/digits", "default/digits@1", "ü/%2F ../x", "m" * 300, "m" * 299 + "n"]
        for kind in Registered:
            for name in names:
                catalogue.register(registration(f"{kind}:{name}", kind=kind, name=name))
        for kind in Registered:
            for name in names:
                found = catalogue.resolve(kind, name)
                assert found is not None and found.key == f"{kind}:{name}"

    def test_a_name_that_was_never_told_is_none(self, catalogue: Catalogue) -> None:
        catalogue.register(registration("a"))
        assert catalogue.resolve(Registered.MODEL, "default/digits") is None
        assert catalogue.resolve(Registered.DATASET, "default/digi") is None
