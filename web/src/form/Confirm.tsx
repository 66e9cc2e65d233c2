/** Asks before something is destroyed, with the name of what will be gone. */
import { Button, Group, Modal } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import type { ReactNode } from "react";

export function Confirm({ title, children, action, onYes, trigger, color = "red" }: { title: string; children: ReactNode; action: string; onYes: () => void; trigger: (open: () => void) => ReactNode; color?: string }) {
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <>
      {trigger(open)}
      <Modal opened={opened} onClose={close} title={title} size="sm" closeButtonProps={{ "aria-label": "Close" }}>
        <div>{children}</div>
        <Group justify="flex-end" mt="md" gap={8}>
          <Button variant="default" onClick={close} data-autofocus>Keep it</Button>
          <Button color={color} onClick={() => { close(); onYes(); }}>{action}</Button>
        </Group>
      </Modal>
    </>
  );
}
