/** Sign in: by name and password, by the one-time link of `narf up`, or with an invitation. */
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useRef, useState, type FormEvent } from "react";
import { post, Problem } from "~/api/client";
import { signIn } from "~/api/session";
import { useForm } from "~/form/useForm";
import { Failure } from "~/shell/Panel";
import css from "./Login.module.css";

/** Only addresses of this site: `//evil.example` and the like lead home. */
const inside = (next: string | undefined): string => (next && /^\/(?![/\\])/.test(next) && !next.startsWith("/login") ? next : "/home");

export function Login() {
  const search = useSearch({ strict: false }) as { next?: string; code?: string; invitation?: string; ended?: string };
  const client = useQueryClient();
  const navigate = useNavigate();
  const [linkProblem, setLinkProblem] = useState<Problem | null>(null);
  const tried = useRef(false);
  const goOn = () => void navigate({ href: inside(search.next), replace: true } as never);
  const form = useForm(
    { user: "", password: "", display_name: "" },
    async (values) => {
      if (search.invitation) await post("/api/v1/invitations/accept", { code: search.invitation, ...values });
      await signIn(client, { user: values.user, password: values.password });
    },
    goOn,
  );
  useEffect(() => {
    if (!search.code || tried.current) return;
    tried.current = true; // a link works once: never send it twice
    signIn(client, { code: search.code }).then(goOn, (error: unknown) => setLinkProblem(error instanceof Problem ? error : null));
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    form.send();
  };
  const userError = form.error("user") ?? form.error("name");
  const passwordError = form.error("password");
  const rest = form.rest() ?? linkProblem;
  if (search.code && !linkProblem) return <main className={css.place} aria-busy="true"><p className="dim" role="status">Signing in…</p></main>;
  return (
    <main className={css.place}>
      <form className={css.form} onSubmit={submit}>
        <div className={css.brand}><img src="/icon.svg" alt="" width={28} height={28} />Narf</div>
        <h1>{search.invitation ? "Accept the invitation" : "Sign in"}</h1>
        {search.ended && !rest && <p className="dim" role="status">Your session has ended. Sign in again; you come back to where you were.</p>}
        {rest && <div className={css.problem}><Failure error={rest} /></div>}
        <TextInput label="User" size="sm" autoComplete="username" autoFocus required value={form.values.user} error={userError} onChange={(event) => form.set("user", event.currentTarget.value)} />
        {search.invitation && <TextInput label="Your name" size="sm" autoComplete="name" value={form.values.display_name} onChange={(event) => form.set("display_name", event.currentTarget.value)} />}
        <PasswordInput
          label="Password" size="sm" autoComplete={search.invitation ? "new-password" : "current-password"} required value={form.values.password} error={passwordError}
          visibilityToggleButtonProps={{ "aria-label": "Show the password" }} onChange={(event) => form.set("password", event.currentTarget.value)}
        />
        <Button type="submit" size="sm" loading={form.busy}>{search.invitation ? "Join" : "Sign in"}</Button>
        <p className="dim">On this machine, <code>narf open</code> makes a link that signs you in without a password.</p>
      </form>
    </main>
  );
}
