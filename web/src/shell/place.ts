/** Where the reader is: the project of the address, or the one last looked at. */
import { useParams } from "@tanstack/react-router";
import { useProjects } from "~/api/session";

const KEY = "narf-project";

export function useProjectName(): string | null {
  const { project } = useParams({ strict: false }) as { project?: string };
  const projects = useProjects();
  if (project) {
    remember(project);
    return project;
  }
  const last = recall();
  if (last && (!projects || projects.some((each) => each.name === last))) return last;
  return projects?.[0]?.name ?? null;
}

function remember(project: string): void {
  try {
    sessionStorage.setItem(KEY, project);
  } catch {
    // Storage is switched off: the first project is shown instead.
  }
}

function recall(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
