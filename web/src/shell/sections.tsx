/** The places of the console, once: for the sidebar, the command palette and the breadcrumb. */
import { IconAdjustmentsHorizontal, IconBox, IconChartLine, IconDatabase, IconHome, IconLayoutDashboard, IconRocket, IconServer, IconSettings, IconStack2, IconUsers } from "@tabler/icons-react";

export interface Section {
  label: string;
  to: string; // under the project, or from the root
  icon: typeof IconHome;
  key?: string; // pressed after `g`
}

export const ofProject: { title: string; sections: Section[] }[] = [
  {
    title: "Work",
    sections: [
      { label: "Overview", to: "", icon: IconLayoutDashboard, key: "o" },
      { label: "Workloads", to: "/workloads", icon: IconStack2, key: "w" },
      { label: "Runs", to: "/runs", icon: IconChartLine, key: "r" },
      { label: "Tuning", to: "/tuning", icon: IconAdjustmentsHorizontal, key: "t" },
    ],
  },
  {
    title: "Assets",
    sections: [
      { label: "Data", to: "/data", icon: IconDatabase, key: "d" },
      { label: "Models", to: "/models", icon: IconBox, key: "m" },
      { label: "Endpoints", to: "/endpoints", icon: IconRocket, key: "e" },
    ],
  },
];

export const everywhere: Section[] = [
  { label: "Home", to: "/home", icon: IconHome, key: "h" },
  { label: "Cluster", to: "/cluster", icon: IconServer, key: "c" },
];

export const settings: Section = { label: "Settings", to: "/settings", icon: IconSettings, key: "s" };
export const admin: Section = { label: "Administration", to: "/admin/users", icon: IconUsers };
