/** How answers are kept: shown at once when known, read again when a live event says so. */
import { notifications } from "@mantine/notifications";
import { MutationCache, QueryClient } from "@tanstack/react-query";
import { Problem } from "./client";

export const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      gcTime: 10 * 60_000,
      refetchOnWindowFocus: false,
      // What the server refuses stays refused; what could not be reached is tried for as long as the page is open.
      retry: (count, error) => error instanceof Problem && (error.status === 0 || error.status >= 502) && count < 1000,
      retryDelay: (count) => Math.min(5_000, 400 * 2 ** count),
      networkMode: "always",
    },
    mutations: { networkMode: "always" },
  },
  mutationCache: new MutationCache({
    onError: (error, _variables, _context, mutation) => {
      if (mutation.meta?.["shown"]) return; // a form shows it beside its field
      say(error);
    },
  }),
});

/** An error as a notice that stays until it is read. */
export function say(error: unknown): void {
  const problem = error instanceof Problem ? error : new Problem({ status: 0, detail: String(error) });
  notifications.show({ color: "red", title: problem.message, message: problem.remedy, autoClose: 12_000 });
}

export const done = (message: string): string => notifications.show({ message, color: "green" });
