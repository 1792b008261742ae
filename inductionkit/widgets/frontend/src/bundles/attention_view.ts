import { widget } from "../common/page";
import { mount } from "../heads/attention";

export default widget(mount);
