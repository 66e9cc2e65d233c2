/** Whether an error's field is shown by an input: the same path, or one inside it ("parameters.lr.low" by "parameters.lr"). */
export const belongs = (path: string | null, field: string): boolean => path !== null && (path === field || path.startsWith(`${field}.`));
