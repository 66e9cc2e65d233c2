/** One workload: its life so far, its output as it comes, what it asked for, and why it waits or ended. */
import { Button, Select, Tabs } from "@mantine/core";
import { IconPlayerStop, IconRefresh } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { Fragment } from "react";
import { seg } from "~/api/client";
import type { WorkloadDetail } from "~/api/types";
import { whyQuery } from "~/api/cluster";
import { isOver, useCancel, workloadQuery } from "~/api/workloads";
import { Confirm } from "~/form/Confirm";
import { bytes } from "~/format/number";
import { between, clockTime, duration, fullTime } from "~/format/time";
import { useRefresh } from "~/live/useLive";
import { LogView } from "~/log/LogView";
import { ButtonLink } from "~/shell/ButtonLink";
import { Command, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Ago, useNow } from "~/shell/Time";
import { Facts, Title } from "~/shell/Title";
import { asked } from "./asked";
import { useLog } from "./useLog";
import grid from "~/shell/Grid.module.css";
import css from "./Workload.module.css";

export function WorkloadPage() {
  const { project, id } = useParams({ strict: false }) as { project: string; id: string };
  const query = useQuery(workloadQuery(id));
  useRefresh(`projects/${project}/workloads`, ["workload", id]);
  return <Loaded query={query} height={500}>{(workload) => <Shown workload={workload} project={project} />}</Loaded>;
}

function Shown({ workload, project }: { workload: WorkloadDetail; project: string }) {
  const cancel = useCancel();
  const navigate = useNavigate();
  const search = useSearch({ strict: false }) as { tab?: string; attempt?: string };
  const over = isOver(workload);
  const now = useNow();
  const attempt = Number(search.attempt ?? Math.max(1, ...workload.attempts.map((each) => each.attempt)));
  const output = useLog(workload.id, workload.attempts.length ? attempt : null);
  const latest = workload.attempts.find((each) => each.attempt === attempt);
  return (
    <>
      <Title
        note={<><State state={workload.state} /><span>·</span><span>{workload.owner}</span><span>·</span><Ago at={workload.created_at} />{workload.started_at && <><span>·</span><span>{duration(between(workload.started_at, workload.ended_at, now))}</span></>}<span>·</span><code>{workload.id}</code></>}
        actions={
          <>
            {workload.run_id && <ButtonLink variant="default" to={`/p/${seg(project)}/runs/${workload.run_id}`}>Open run</ButtonLink>}
            <ButtonLink variant="default" leftSection={<IconRefresh size={14} />} to={`/p/${seg(project)}/new`} search={{ from: workload.id }}>Run again</ButtonLink>
            {!over && (
              <Confirm
                title={`Cancel ${workload.name}?`} action="Cancel it" onYes={() => cancel.mutate(workload.id)}
                trigger={(open) => <Button variant="default" color="red" c="var(--bad)" leftSection={<IconPlayerStop size={14} />} onClick={open} loading={cancel.isPending} disabled={workload.cancel_requested}>{workload.cancel_requested ? "Stopping…" : "Cancel"}</Button>}
              >It gets a signal to save a checkpoint and end; after its grace period it is killed. What it has logged stays.</Confirm>
            )}
          </>
        }
      >{workload.name}</Title>
      <div className={grid.grid}>
        <div className={`${grid.w8} ${grid.stack}`}>
          <Why workload={workload} />
          <Panel flush>
            <Tabs value={search.tab ?? "output"} onChange={(tab) => void navigate({ search: { ...search, tab: tab === "output" ? undefined : tab } as never, replace: true } as never)} keepMounted={false}>
              <Tabs.List px={8}>
                <Tabs.Tab value="output">Output</Tabs.Tab>
                <Tabs.Tab value="attempts">Attempts</Tabs.Tab>
                <Tabs.Tab value="program">Program</Tabs.Tab>
              </Tabs.List>
              <Tabs.Panel value="output">
                {workload.attempts.length > 1 && (
                  <div className={css.attempt}>
                    <Select
                      aria-label="Attempt" w={180} value={String(attempt)} data={workload.attempts.map((each) => ({ value: String(each.attempt), label: `Attempt ${each.attempt}` }))}
                      onChange={(value) => void navigate({ search: { ...search, attempt: value ?? undefined } as never, replace: true } as never)}
                    />
                  </div>
                )}
                {workload.attempts.length === 0
                  ? <p className={css.quiet}>{over ? "It ended before it ran, so there is no output." : "Its output shows up here as soon as it starts."}</p>
                  : <LogView lines={output.lines} height="max(320px, calc(100vh - 420px))" label={`Output of ${workload.name}`} note={output.complete ? "complete" : latest?.ended_at ? undefined : "following"} />}
              </Tabs.Panel>
              <Tabs.Panel value="attempts" p={14}><Attempts workload={workload} /></Tabs.Panel>
              <Tabs.Panel value="program" p={14}>
                <Facts facts={[
                  ["Script", workload.script && <code>{workload.script}</code>],
                  ["Arguments", workload.arguments.length > 0 && <code>{workload.arguments.join(" ")}</code>],
                  ["Command", workload.command.length > 0 && <code>{workload.command.join(" ")}</code>],
                  ["Snapshot", workload.snapshot && <code>{workload.snapshot}</code>],
                  ["Data", workload.data.join(", ")],
                  ["Same from a terminal", <Command key="c" text={`narf logs ${workload.id} --follow`} />],
                ]} />
              </Tabs.Panel>
            </Tabs>
          </Panel>
        </div>
        <div className={`${grid.w4} ${grid.stack}`}>
          <Panel title="Timeline"><Timeline workload={workload} /></Panel>
          <Panel title="Resources">
            <Facts facts={[
              ["Asked", asked(workload)],
              ["Held on", latest?.placement.map((each) => `${each.node}${each.gpu_indices.length ? ` GPU ${each.gpu_indices.join(",")}` : ""}`).join("; ")],
              ["CPU time", latest ? duration(latest.cpu_seconds) : null],
              ["Peak memory", latest?.peak_memory_bytes ? bytes(latest.peak_memory_bytes) : null],
              ["Time limit", workload.time_limit_seconds ? duration(workload.time_limit_seconds) : "none"],
              ["Priority", workload.priority],
              ["May be preempted", workload.preemptible ? "yes" : "no"],
              ["Retries", workload.max_retries],
            ]} />
          </Panel>
        </div>
      </div>
    </>
  );
}

function Why({ workload }: { workload: WorkloadDetail }) {
  const waits = workload.state === "queued";
  const why = useQuery({ ...whyQuery(workload.id), enabled: waits }).data;
  return (
    <div className={css.why} data-state={workload.state}>
      <State state={workload.state} />
      <div>
        <p>{(waits && why?.sentence) || workload.sentence}</p>
        {waits && why?.remedy && <p className="dim">{why.remedy}</p>}
        {waits && why && (
          <p className={css.facts}>
            {why.position ? <span>position <b>{why.position}</b></span> : null}
            {why.reason && <span>rule <b>{why.reason.replaceAll("_", " ")}</b></span>}
            {why.forecast && <span>starts in about <b>{duration(why.forecast.seconds)}</b> ({duration(why.forecast.low)} to {duration(why.forecast.high)})</span>}
            {why.takes_back && <span>takes the place of {why.takes_back.victims.slice(0, 3).map((victim, i) => <Fragment key={victim}>{i > 0 && ", "}<Other id={victim} project={workload.project} /></Fragment>)}{why.takes_back.victims.length > 3 && ` and ${why.takes_back.victims.length - 3} more`} in <b>{duration(why.takes_back.seconds)}</b>, if nothing ends before</span>}
            {(why.holders ?? []).slice(0, 3).map((holder) => <span key={holder.workload}>{holder.amount} held by {holder.workload ? <Other id={holder.workload} project={workload.project} /> : <b>another project</b>} for {duration(holder.running_seconds)}</span>)}
          </p>
        )}
      </div>
    </div>
  );
}

function Other({ id, project }: { id: string; project: string }) {
  return <Link className="link" to={`/p/${seg(project)}/workloads/${id}` as "/home"}>{id}</Link>;
}

function Timeline({ workload }: { workload: WorkloadDetail }) {
  return (
    <ol className={css.timeline}>
      {workload.events.slice(-40).map((event) => (
        <li key={event.id}>
          <time dateTime={event.at} title={fullTime(event.at)}>{clockTime(event.at)}</time>
          <div>
            <State state={event.state} />
            {event.sentence && <p className="dim">{event.sentence}</p>}
          </div>
        </li>
      ))}
    </ol>
  );
}

function Attempts({ workload }: { workload: WorkloadDetail }) {
  if (workload.attempts.length === 0) return <p className="dim">It has not been admitted yet.</p>;
  return (
    <div className={css.attempts}>
      {workload.attempts.map((attempt) => (
        <Facts key={attempt.attempt} facts={[
          ["Attempt", attempt.attempt],
          ["Where", attempt.placement.map((each) => each.node).join(", ")],
          ["Admitted", fullTime(attempt.admitted_at)],
          ["Started", attempt.started_at && fullTime(attempt.started_at)],
          ["Ended", attempt.ended_at && fullTime(attempt.ended_at)],
          ["Exit code", attempt.exit_code],
          ["Outcome", attempt.sentence],
        ]} />
      ))}
    </div>
  );
}
