import { widget } from "../common/page";
import { mount } from "../heads/scan";

export default widget(mount);
