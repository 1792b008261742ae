import { widget } from "../common/page";
import { mount } from "../superposition/superposition";

export default widget(mount);
