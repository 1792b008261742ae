import { widget } from "../common/page";
import { mount } from "../heads/ablation";

export default widget(mount);
