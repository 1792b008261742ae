import { widget } from "../common/page";
import { mount } from "../explorer/explorer";

export default widget(mount);
