import { widget } from "../common/page";
import { mount } from "../superposition/descent_widget";

export default widget(mount);
