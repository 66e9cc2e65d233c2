import { Link, useLocation } from "@tanstack/react-router";
import { Empty } from "./Panel";

/** An address that leads nowhere: says so, and offers where to go. */
export function NotFound() {
  const { pathname } = useLocation();
  return (
    <div style={{ paddingTop: "10vh" }}>
      <Empty title="There is no such page" action={<Link to="/home" className="link">Go home</Link>}>
        Nothing is at <code>{decodeURIComponent(pathname).slice(0, 120)}</code>. It may have been deleted, or the link is mistyped. Press Ctrl K to search.
      </Empty>
    </div>
  );
}
