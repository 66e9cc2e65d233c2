/** Ctrl/Cmd-K: any place of the console, any project, by a few letters. `g` and a letter go there at once. */
import { Modal, TextInput, useMantineColorScheme } from "@mantine/core";
import { IconFolder, IconSearch, IconSunMoon } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useId, useMemo, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { seg } from "~/api/client";
import { useMe, useProjects } from "~/api/session";
import { admin, everywhere, ofProject, settings } from "./sections";
import { rank } from "./rank";
import css from "./Palette.module.css";

let open: () => void = () => undefined;
export const openPalette = (): void => open();

interface Command {
  label: string;
  group: string;
  icon: ReactNode;
  keys?: string;
  run: () => void;
}

export function Palette({ project }: { project: string | null }) {
  const [opened, setOpened] = useState(false);
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const navigate = useNavigate();
  const me = useMe();
  const projects = useProjects();
  const { toggleColorScheme } = useMantineColorScheme();
  const list = useId();
  const waiting = useRef(false); // for the second key; outlives commands that change between the two
  open = () => {
    setText("");
    setAt(0);
    setOpened(true);
  };

  const commands = useMemo<Command[]>(() => {
    const go = (to: string) => () => void navigate({ to: to as "/home" });
    const base = project ? `/p/${seg(project)}` : null;
    const places = [
      ...everywhere.map((section) => ({ ...section, path: section.to })),
      ...(base ? [...ofProject.flatMap((group) => group.sections), settings].map((section) => ({ ...section, path: base + section.to })) : []),
      ...(me?.is_admin ? [{ ...admin, path: admin.to }] : []),
    ];
    return [
      ...places.map(({ label, path, icon: Icon, key }) => ({ label, group: "Go to", icon: <Icon size={15} stroke={1.6} />, ...(key ? { keys: `g ${key}` } : {}), run: go(path) })),
      ...(base ? [{ label: "New run", group: "Do", icon: <IconFolder size={15} stroke={1.6} />, keys: "n", run: go(`${base}/new`) }] : []),
      { label: "Switch between light and dark", group: "Do", icon: <IconSunMoon size={15} stroke={1.6} />, run: toggleColorScheme },
      ...(projects ?? []).map((each) => ({ label: each.name, group: "Projects", icon: <IconFolder size={15} stroke={1.6} />, run: go(`/p/${seg(each.name)}`) })),
    ];
  }, [project, projects, me, navigate, toggleColorScheme]);

  useEffect(() => {
    const press = (event: globalThis.KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        open();
        return;
      }
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, [contenteditable], [role=dialog]")) return;
      const keys = waiting.current ? `g ${event.key}` : event.key;
      waiting.current = !waiting.current && event.key === "g";
      const command = commands.find((each) => each.keys === keys);
      if (command) {
        event.preventDefault();
        command.run();
      }
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, [commands]);

  const found = useMemo(() => rank(text, commands, (command) => `${command.label} ${command.group}`), [text, commands]);
  const choose = (command: Command | undefined) => {
    if (!command) return;
    setOpened(false);
    command.run();
  };
  const onKey = (event: KeyboardEvent) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) {
      event.preventDefault();
      setAt((now) => (now + move + found.length) % Math.max(found.length, 1));
    } else if (event.key === "Enter") choose(found[at]);
  };
  return (
    <Modal opened={opened} onClose={() => setOpened(false)} withCloseButton={false} padding={0} yOffset="12vh" centered={false} size={560}>
      <TextInput
        data-autofocus value={text} onKeyDown={onKey} size="md" variant="unstyled" placeholder="Where to?" aria-label="Search or jump to"
        onChange={(event) => { setText(event.currentTarget.value); setAt(0); }} leftSection={<IconSearch size={16} />}
        role="combobox" aria-expanded aria-controls={list} aria-activedescendant={found[at] ? `${list}-${at}` : undefined}
      />
      <ul id={list} role="listbox" aria-label="Places and actions" className={css.list}>
        {found.slice(0, 12).map((command, i) => (
          <li key={command.group + command.label} id={`${list}-${i}`} role="option" aria-selected={i === at} className={css.option} onMouseMove={() => setAt(i)} onClick={() => choose(command)}>
            {command.icon}
            <span className="truncate">{command.label}</span>
            <span className={css.group}>{command.keys ? <kbd>{command.keys}</kbd> : command.group}</span>
          </li>
        ))}
        {found.length === 0 && <li role="option" aria-selected={false} aria-disabled className={css.none}>Nothing is called that.</li>}
      </ul>
    </Modal>
  );
}
