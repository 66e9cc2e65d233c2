/** The API's bodies by their names, from the generated schema. */
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Me = Schemas["Me"];
export type Project = Schemas["ProjectOut"];
export type Member = Schemas["MemberOut"];
export type Invitation = Schemas["InvitationOut"];
export type NewInvitation = Schemas["NewInvitation"];
export type Secret = Schemas["SecretOut"];
export type Token = Schemas["TokenOut"];
export type NewToken = Schemas["NewToken"];
export type User = Schemas["UserOut"];
export type AuditEntry = Schemas["AuditEntry"];
export type Workload = Schemas["WorkloadOut"];
export type WorkloadDetail = Schemas["WorkloadDetail"];
export type Log = Schemas["LogOut"];
export type Run = Schemas["RunOut"];
export type RunDetail = Schemas["RunDetail"];
export type Metric = Schemas["MetricOut"];
export type Artifact = Schemas["ArtifactOut"];
export type Comparison = Schemas["Comparison"];
