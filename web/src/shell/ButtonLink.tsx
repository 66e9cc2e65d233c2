/** A link that looks like a button. */
import { Button, type ButtonProps } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

export function ButtonLink({ to, search, children, ...rest }: ButtonProps & { to: string; search?: Record<string, string | undefined>; children: ReactNode }) {
  return <Button {...rest} renderRoot={(props) => <Link to={to as "/home"} {...(search ? { search: search as never } : {})} {...props} />}>{children}</Button>;
}
