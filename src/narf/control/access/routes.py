"""HTTP of sign-in, users and tokens."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Depends, Query, Request, Response

from narf.control.access.caller import caller
from narf.control.access.middleware import COOKIE
from narf.control.access.rules import ADMIN, PUBLIC, SIGNED_IN, Rules
from narf.control.access.service import SESSION_LENGTH, AccessService
from narf.control.access.store import Session, Token, User
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput, NotAllowed
from narf.wire.access import Me, NewToken, SignIn, TokenIn, TokenOut, UserChange, UserIn, UserOut
from narf.wire.page import Limit, Page, decode_cursor, encode_cursor

RULES: Rules = {
    ("POST", "/api/v1/session"): PUBLIC,
    ("DELETE", "/api/v1/session"): SIGNED_IN,
    ("GET", "/api/v1/me"): SIGNED_IN,
    ("POST", "/api/v1/links"): SIGNED_IN,
    ("GET", "/api/v1/users"): ADMIN,
    ("POST", "/api/v1/users"): ADMIN,
    ("GET", "/api/v1/users/{user}"): ADMIN,
    ("PATCH", "/api/v1/users/{user}"): ADMIN,
    ("GET", "/api/v1/tokens"): SIGNED_IN,
    ("POST", "/api/v1/tokens"): SIGNED_IN,
    ("DELETE", "/api/v1/tokens/{token}"): SIGNED_IN,
}


def router(access: AccessService) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["access"])

    @routes.post("/session", response_model=Me)
    def sign_in(body: SignIn, request: Request, response: Response) -> Me:
        """Sign in. The session is a cookie that scripts cannot read."""
        if body.code:
            session, secret = access.sign_in_by_link(body.code)
        elif body.user and body.password:
            source = request.client.host if request.client else "unknown"
            session, secret = access.sign_in(body.user, body.password, source=source)
        else:
            raise BadInput("A sign-in needs a user and a password, or the code of a link.", field="user")
        response.set_cookie(
            COOKIE,
            secret,
            max_age=int(SESSION_LENGTH.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return _me(access.principal_of_user(session.user), access.user(session.user), session)

    @routes.delete("/session", status_code=204)
    def sign_out(request: Request, response: Response) -> None:
        """End this session."""
        if secret := request.cookies.get(COOKIE):
            access.sign_out(secret)
        response.delete_cookie(COOKIE, path="/")

    @routes.get("/me", response_model=Me)
    def me(request: Request, principal: Principal = Depends(caller)) -> Me:
        """Who this session or token speaks for."""
        secret = request.cookies.get(COOKIE)
        with_cookie = secret and "authorization" not in request.headers
        return _me(principal, access.user(principal.user), access.session(secret) if with_cookie and secret else None)

    @routes.post("/links", status_code=201)
    def new_link(principal: Principal = Depends(caller)) -> dict[str, str]:
        """A code that signs the caller in once, in a browser, within 15 minutes."""
        if principal.role_limit is not Role.ADMIN or principal.projects_limit is not None:
            raise NotAllowed("A limited token cannot make a sign-in link.", remedy="Use an unlimited token.")
        return {"code": access.new_link(principal.user)}

    @routes.get("/users", response_model=Page[UserOut])
    def list_users(limit: Limit = 50, cursor: str = Query("", max_length=500)) -> Page[UserOut]:
        after = str(decode_cursor(cursor, 1)[0]) if cursor else ""
        found = access.users(after=after, limit=limit + 1)
        return Page(
            items=[_user(user) for user in found[:limit]], next=encode_cursor(found[limit - 1].name) if len(found) > limit else None
        )

    @routes.post("/users", response_model=UserOut, status_code=201)
    def create_user(body: UserIn, principal: Principal = Depends(caller)) -> UserOut:
        return _user(
            access.create_user(body.name, by=principal.user, password=body.password, is_admin=body.is_admin, display_name=body.display_name)
        )

    @routes.get("/users/{user}", response_model=UserOut)
    def show_user(user: str) -> UserOut:
        return _user(access.user(user))

    @routes.patch("/users/{user}", response_model=UserOut)
    def change_user(user: str, body: UserChange, principal: Principal = Depends(caller)) -> UserOut:
        access.user(user)
        if body.password is not None:
            access.set_password(user, body.password, by=principal.user)
        if body.disabled is not None:
            access.set_disabled(user, body.disabled, by=principal.user)
        return _user(access.user(user))

    @routes.get("/tokens", response_model=Page[TokenOut])
    def list_tokens(everybody: bool = False, principal: Principal = Depends(caller)) -> Page[TokenOut]:
        """The caller's tokens; with `everybody`, an admin sees all."""
        return Page(items=[_token(token) for token in access.list_tokens(None if everybody and principal.is_admin else principal.user)])

    @routes.post("/tokens", response_model=NewToken, status_code=201)
    def create_token(body: TokenIn, principal: Principal = Depends(caller)) -> NewToken:
        """A new token, at most as wide as what asks for it."""
        if not principal.role_limit.includes(body.role_limit):
            body.role_limit = principal.role_limit
        if principal.projects_limit is not None:
            wanted = body.projects if body.projects is not None else list(principal.projects_limit)
            body.projects = [project for project in wanted if project in principal.projects_limit]
        token, secret = access.create_token(
            principal.user,
            name=body.name,
            by=principal.user,
            role_limit=body.role_limit,
            projects_limit=None if body.projects is None else tuple(body.projects),
            expires_in=None if body.expires_in_days is None else timedelta(days=body.expires_in_days),
        )
        return NewToken(**_token(token).model_dump(), token=secret)

    @routes.delete("/tokens/{token}", status_code=204)
    def revoke_token(token: str, principal: Principal = Depends(caller)) -> None:
        access.revoke_token(token, by=principal)

    return routes


def _me(principal: Principal, user: User, session: Session | None) -> Me:
    return Me(
        user=user.name,
        display_name=user.display_name,
        is_admin=principal.is_admin,
        roles=dict(principal.roles),
        csrf=session.csrf if session else None,
    )


def _user(user: User) -> UserOut:
    return UserOut(
        id=user.name,
        name=user.name,
        display_name=user.display_name,
        is_admin=user.is_admin,
        created_at=user.created_at,
        disabled_at=user.disabled_at,
    )


def _token(token: Token) -> TokenOut:
    return TokenOut(
        id=token.id,
        user=token.user,
        name=token.name,
        role_limit=token.role_limit,
        projects=None if token.projects is None else list(token.projects),
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
    )
