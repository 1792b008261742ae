import { widget } from "../common/page";
import { mount } from "../superposition/diagram_widget";

export default widget(mount);
