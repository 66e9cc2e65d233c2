"""Accounts, sign-in, sessions and tokens."""

from __future__ import annotations

from datetime import timedelta

import pytest

from narf.control.access.service import AccessService
from narf.control.database import Database
from narf.control.projects.service import ProjectService
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput, Conflict, LimitReached, NotFound, NotSignedIn

ADMIN = Principal(user="root-admin", is_admin=True)


@pytest.fixture
def access(database: Database, clock) -> AccessService:
    service = AccessService(database, clock)
    service.create_user("root-admin", by="test", is_admin=True)
    return service


@pytest.fixture
def projects(database: Database, access: AccessService, clock) -> ProjectService:
    return ProjectService(database, access, clock)


def test_a_password_signs_in_and_the_session_speaks_for_its_user(access: AccessService):
    access.create_user("ada", by="root-admin", password="correct horse")
    session, secret = access.sign_in("ada", "correct horse", source="here")
    assert access.session(secret).user == "ada"
    assert session.csrf != secret


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(access: AccessService):
    access.create_user("ada", by="root-admin", password="correct horse")
    with pytest.raises(NotSignedIn) as wrong:
        access.sign_in("ada", "wrong horse!", source="here")
    with pytest.raises(NotSignedIn) as unknown:
        access.sign_in("bob", "wrong horse!", source="here")
    assert str(wrong.value) == str(unknown.value)


def test_after_ten_wrong_passwords_even_the_right_one_must_wait(access: AccessService, clock):
    access.create_user("ada", by="root-admin", password="correct horse")
    for _ in range(10):
        with pytest.raises(NotSignedIn):
            access.sign_in("ada", "wrong horse!", source="here")
    with pytest.raises(LimitReached) as refused:
        access.sign_in("ada", "correct horse", source="elsewhere")
    assert refused.value.retry_after_seconds
    clock.forward(minutes=6)
    assert access.sign_in("ada", "correct horse", source="here")


def test_a_link_signs_in_once(access: AccessService):
    code = access.new_link("root-admin")
    assert access.sign_in_by_link(code)
    with pytest.raises(NotSignedIn):
        access.sign_in_by_link(code)


def test_a_link_is_good_for_fifteen_minutes(access: AccessService, clock):
    code = access.new_link("root-admin")
    clock.forward(minutes=16)
    with pytest.raises(NotSignedIn):
        access.sign_in_by_link(code)


def test_a_session_lives_while_it_is_used_and_ends_when_it_is_not(access: AccessService, clock):
    _, secret = access.sign_in_by_link(access.new_link("root-admin"))
    for _ in range(3):
        clock.forward(days=10)
        assert access.session(secret)
    clock.forward(days=15)
    with pytest.raises(NotSignedIn):
        access.session(secret)


def test_a_new_password_ends_every_session(access: AccessService):
    access.create_user("ada", by="root-admin", password="correct horse")
    _, secret = access.sign_in("ada", "correct horse", source="here")
    access.set_password("ada", "another horse", by="root-admin")
    with pytest.raises(NotSignedIn):
        access.session(secret)


def test_a_token_is_narrower_than_its_user(access: AccessService, projects: ProjectService):
    projects.create("vision", by=ADMIN)
    projects.create("speech", by=ADMIN)
    _, secret = access.create_token("root-admin", name="ci", by="root-admin", role_limit=Role.VIEWER, projects_limit=("vision",))
    principal = access.principal_of_token(secret)
    assert principal.role_in("vision") is Role.VIEWER
    assert principal.role_in("speech") is None


def test_a_token_stops_when_it_is_revoked_or_expired(access: AccessService, clock):
    token, secret = access.create_token("root-admin", name="short", by="root-admin", expires_in=timedelta(days=1))
    assert access.principal_of_token(secret)
    clock.forward(days=2)
    with pytest.raises(NotSignedIn):
        access.principal_of_token(secret)
    token, secret = access.create_token("root-admin", name="other", by="root-admin")
    access.revoke_token(token.id, by=ADMIN)
    with pytest.raises(NotSignedIn):
        access.principal_of_token(secret)


def test_nobody_revokes_another_ones_token(access: AccessService):
    token, _ = access.create_token("root-admin", name="mine", by="root-admin")
    with pytest.raises(NotFound):
        access.revoke_token(token.id, by=Principal(user="ada"))


def test_secrets_of_tokens_and_sessions_are_not_in_the_database(access: AccessService, database: Database):
    from narf.control.access.store import sessions, tokens

    _, token = access.create_token("root-admin", name="t", by="root-admin")
    _, session = access.sign_in_by_link(access.new_link("root-admin"))
    with database.read() as connection:
        stored = repr(connection.execute(tokens.select()).all()) + repr(connection.execute(sessions.select()).all())
    assert token not in stored
    assert session not in stored


def test_a_disabled_account_reaches_nothing(access: AccessService):
    access.create_user("ada", by="root-admin", password="correct horse")
    _, token = access.create_token("ada", name="t", by="ada")
    access.set_disabled("ada", True, by="root-admin")
    with pytest.raises(NotSignedIn):
        access.principal_of_token(token)
    with pytest.raises(NotSignedIn):
        access.sign_in("ada", "correct horse", source="here")


@pytest.mark.parametrize("name", ["", "../etc", "A", "a" * 64, "a b", "-a", "a\n", "ü"])
def test_a_bad_name_is_refused(access: AccessService, name: str):
    with pytest.raises(BadInput):
        access.create_user(name, by="root-admin")


def test_a_name_is_given_once(access: AccessService):
    with pytest.raises(Conflict):
        access.create_user("root-admin", by="root-admin")


def test_an_invitation_makes_one_member(access: AccessService, projects: ProjectService):
    projects.create("vision", by=ADMIN)
    _, code = projects.invite("vision", Role.DEVELOPER, by=ADMIN, expires_in=timedelta(days=7))
    projects.accept(code, user="ada", password="correct horse")
    assert access.principal_of_user("ada").role_in("vision") is Role.DEVELOPER
    with pytest.raises(NotFound):
        projects.accept(code, user="bob", password="correct horse")


def test_an_old_invitation_is_refused(access: AccessService, projects: ProjectService, clock):
    projects.create("vision", by=ADMIN)
    _, code = projects.invite("vision", Role.DEVELOPER, by=ADMIN, expires_in=timedelta(days=7))
    clock.forward(days=8)
    with pytest.raises(NotFound):
        projects.accept(code, user="ada", password="correct horse")
    with pytest.raises(NotFound):
        access.user("ada")
