import { widget } from "../common/page";
import { mount } from "../circuit/widget";

export default widget(mount);
