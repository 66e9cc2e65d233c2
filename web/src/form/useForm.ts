/** A form that sends its values and shows the API's own sentence beside the field that caused it. */
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { Problem } from "~/api/client";
import { belongs } from "./field";

export function useForm<V extends object, R>(initial: V, submit: (values: V) => Promise<R>, after?: (result: R) => void) {
  const [values, setValues] = useState<V>(initial);
  const mutation = useMutation({ mutationFn: () => submit(values), meta: { shown: true }, onSuccess: (result) => after?.(result) });
  const problem = mutation.error instanceof Problem ? mutation.error : null;
  const claimed = new Set<string>();
  return {
    values,
    set: <K extends keyof V>(key: K, value: V[K]) => {
      mutation.reset();
      setValues((now) => ({ ...now, [key]: value }));
    },
    /** The sentence for the input bound to this field of the API (a dotted path). */
    error: (field: string): string | undefined => {
      claimed.add(field);
      return problem && belongs(problem.field, field) ? `${problem.message} ${problem.remedy}`.trim() : undefined;
    },
    /** What no field of the form shows; ask after the fields. */
    rest: (): Problem | Error | null => {
      if (!mutation.error || !problem) return mutation.error;
      return [...claimed].some((field) => belongs(problem.field, field)) ? null : problem;
    },
    send: () => mutation.mutate(),
    busy: mutation.isPending,
  };
}
