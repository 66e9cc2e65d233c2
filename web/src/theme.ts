/** Mantine's theme: our accent, our sizes, no shadows. Colours themselves are in tokens.css. */
import { createTheme, type MantineColorsTuple } from "@mantine/core";

const accent: MantineColorsTuple = [
  "#eeeefb", "#dcdcf8", "#bdbcf2", "#a9a7f7", "#8e8cf0", "#6f6de0", "#5b5bd6", "#504fc4", "#4543ab", "#383689",
];

/** Our own greys, so that inputs and menus stand on the same ground as everything else. */
const dark: MantineColorsTuple = ["#ececf1", "#c9c9d2", "#a0a0ad", "#75757f", "#34343c", "#26262c", "#17171b", "#0f0f12", "#0b0b0d", "#08080a"];

const quiet = { shadow: "none" };

export const theme = createTheme({
  primaryColor: "accent",
  primaryShade: { light: 6, dark: 7 },
  colors: { accent, dark },
  fontFamily: '"Inter Variable", system-ui, sans-serif',
  fontFamilyMonospace: '"JetBrains Mono", ui-monospace, monospace',
  fontSizes: { xs: "12px", sm: "12px", md: "13px", lg: "14px", xl: "16px" },
  defaultRadius: 6,
  cursorType: "pointer",
  focusRing: "auto",
  respectReducedMotion: true,
  components: {
    Button: { defaultProps: { size: "xs" } },
    ActionIcon: { defaultProps: { variant: "subtle", color: "gray", size: 28 } },
    TextInput: { defaultProps: { size: "xs" } },
    PasswordInput: { defaultProps: { size: "xs" } },
    NumberInput: { defaultProps: { size: "xs" } },
    InputWrapper: { defaultProps: { inputWrapperOrder: ["label", "description", "input", "error"] }, styles: { description: { fontSize: 12, color: "var(--dim)" }, label: { fontSize: 12, fontWeight: 500, marginBottom: 3 }, error: { fontSize: 12 } } },
    Textarea: { defaultProps: { size: "xs" } },
    Select: { defaultProps: { size: "xs", comboboxProps: quiet, allowDeselect: false } },
    MultiSelect: { defaultProps: { size: "xs", comboboxProps: quiet } },
    Autocomplete: { defaultProps: { size: "xs", comboboxProps: quiet } },
    TagsInput: { defaultProps: { size: "xs", comboboxProps: quiet } },
    Checkbox: { defaultProps: { size: "xs" } },
    Switch: { defaultProps: { size: "xs" } },
    SegmentedControl: { defaultProps: { size: "xs" } },
    Menu: { defaultProps: quiet },
    Popover: { defaultProps: quiet },
    // The scroll lock writes a style element of its own, which the page's policy would refuse.
    Modal: { defaultProps: { ...quiet, lockScroll: false, centered: true, transitionProps: { duration: 120 } } },
    Drawer: { defaultProps: { ...quiet, lockScroll: false } },
    Tooltip: { defaultProps: { openDelay: 300, withArrow: false, fz: 12 } },
  },
});
