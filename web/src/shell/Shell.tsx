/** The frame around every page: sidebar, header, and the place where the page goes. */
import { Outlet, useLocation } from "@tanstack/react-router";
import { useEffect } from "react";
import { Header } from "./Header";
import { Palette } from "./Palette";
import { Sidebar } from "./Sidebar";
import { useProjectName } from "./place";
import css from "./Shell.module.css";

export function Shell() {
  const { pathname } = useLocation();
  const project = useProjectName();
  useEffect(() => {
    const parts = pathname.split("/").filter(Boolean).map(decodeURIComponent);
    const shown = parts[0] === "p" ? [...parts.slice(2).reverse(), parts[1]] : parts.reverse();
    document.title = [...shown, "Narf"].join(" · ");
  }, [pathname]);
  return (
    <div className={css.shell}>
      <a href="#page" className={css.skip}>Skip to the page</a>
      <Sidebar project={project} />
      <div className={css.body}>
        <Header project={project} />
        <main id="page" className={css.page} tabIndex={-1}>
          <Outlet />
        </main>
      </div>
      <Palette project={project} />
    </div>
  );
}
