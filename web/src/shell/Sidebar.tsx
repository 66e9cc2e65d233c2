import { Link } from "@tanstack/react-router";
import { useMe } from "~/api/session";
import { seg } from "~/api/client";
import { useLiveStatus } from "~/live/useLive";
import { admin, everywhere, ofProject, settings, type Section } from "./sections";
import css from "./Shell.module.css";

export function Sidebar({ project }: { project: string | null }) {
  const me = useMe();
  const base = project ? `/p/${seg(project)}` : null;
  return (
    <nav className={css.sidebar} aria-label="Main">
      <Link to="/home" className={css.brand} aria-label="Narf">
        <img src="/icon.svg" alt="" width={20} height={20} />
        <span>Narf</span>
      </Link>
      <div className={css.sections}>
        {everywhere.slice(0, 1).map((section) => <Item key={section.label} section={section} to={section.to} />)}
        {base &&
          ofProject.map(({ title, sections }) => (
            <div key={title} className={css.group}>
              <div className={css.groupTitle}>{title}</div>
              {sections.map((section) => <Item key={section.label} section={section} to={base + section.to} exact={section.to === ""} />)}
            </div>
          ))}
        <div className={css.group}>
          <div className={css.groupTitle}>Platform</div>
          {everywhere.slice(1).map((section) => <Item key={section.label} section={section} to={section.to} />)}
          {base && <Item section={settings} to={base + settings.to} />}
          {me?.is_admin && <Item section={admin} to={admin.to} />}
        </div>
      </div>
      <Connection />
    </nav>
  );
}

function Item({ section, to, exact = false }: { section: Section; to: string; exact?: boolean }) {
  const Icon = section.icon;
  return (
    <Link to={to as "/home"} className={css.item} aria-label={section.label} title={section.label} activeOptions={{ exact, includeSearch: false }} activeProps={{ className: css.active ?? "", "aria-current": "page" }}>
      <Icon size={16} stroke={1.6} aria-hidden />
      <span>{section.label}</span>
    </Link>
  );
}

function Connection() {
  const status = useLiveStatus();
  if (status !== "lost") return null;
  return (
    <div className={css.connection} role="status">
      <i /> Reconnecting…
    </div>
  );
}
